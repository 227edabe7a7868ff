from runtime import main

main("delivery")
