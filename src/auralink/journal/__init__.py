"""What both gateways need of a call that a person has to decide on, and of a run."""
