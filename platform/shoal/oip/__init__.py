"""The vocabulary of the Open Inference Protocol: datatypes, tensors and their forms, answers that agree.

A leaf: whoever handles tensors imports its modules, model servers' processes too, and it imports nothing of Shoal but
`shoal_protos`.
"""
