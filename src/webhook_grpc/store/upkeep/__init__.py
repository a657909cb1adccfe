"""What is deleted by age or by demand, and what keeps tables small and statistics right."""
