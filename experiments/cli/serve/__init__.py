"""`ws-learner serve`: the service of `ws_learner.service`, with processes that run experiments."""
