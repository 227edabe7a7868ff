from runtime import main

main("quality_gate")
