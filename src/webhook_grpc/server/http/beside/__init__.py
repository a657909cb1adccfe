"""What is served beside the methods: who calls, what operators look for, the page."""
