"""
Handlers' transactions inside the batch's one: ``stack.py``, the stack of virtual transactions.
"""
