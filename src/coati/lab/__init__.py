"""Agreement made visible: stories of simulated ensembles, told step by step by the machines that the server runs on."""
