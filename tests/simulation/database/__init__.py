"""The played database: each statement of the store does here, at one instant, what its SQL does there."""
