"""The rules of `reconcile`, by subject: each is a function of State that adds to a draft of the plan."""
