from runtime import main

main("audit")
