"""Tables and figures of the paper: their trainings, costs and contents."""
