"""The training loop and its parts.

``Trainer.fit`` trains for all epochs. In ``Trainer.train_step``, teachers predict and
students are trained. ``Submodel.train_step`` is the optimizer step of one student.
"""
