"""The value of an expression: exact numbers, powers, functions, evaluation at a point."""
