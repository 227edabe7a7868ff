from runtime import main

main("conductor")
