"""
The instructions of the machine, one file each: fields, accesses, rules, semantics, cycles, taint and prose.

`definition` has the parts of an instruction's file, `table` collects the files, `instruction` is one instruction with
the values of its fields. Adding an instruction is adding its file.
"""
