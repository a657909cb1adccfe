"""What is deleted by age or on demand, and what keeps tables small and their statistics right."""
