"""The training loop, one step of it, and what surrounds them.

``Trainer.fit`` runs the epochs, ``Trainer.train_step`` lets teachers predict and
students learn, and ``Submodel.train_step`` is the optimizer step of one student.
"""
