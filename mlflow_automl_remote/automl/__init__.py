"""The search as a plain library: data, pipelines, evaluation, processes and the sweep itself.

Knows neither the journal nor MLflow nor SSH. Used in a process of one's own:

    dataset = data.check({"X": X, "y": y}, "classification", n_folds=5)
    data.save(dataset, data_folder)
    config = AutoMLConfig.parse({"task": "classification", "iterations": 20})
    with Executor() as executor:
        result = Sweep(config, data_folder, output_folder, executor=executor).run()
    print(result.best)
"""
