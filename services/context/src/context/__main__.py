from runtime import main

main("context")
