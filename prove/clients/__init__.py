"""The table of tools: what each sees of code that is not bytecode."""
