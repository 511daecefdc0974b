"""
The executable specification of the STA machine, in plain NumPy.

Every other room agrees on numbers, formats and costs by calling these modules; nothing is defined twice.
"""
