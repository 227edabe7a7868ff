from runtime import main

main("classifier")
