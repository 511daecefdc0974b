"""
The instructions of the machine, one file each: fields, accesses, rules, semantics, cycles, taint and prose.

`definition` says what an instruction's file defines, `table` collects the files, `instruction` is one instruction with
the values of its fields. Adding an instruction is adding its file.
"""
