"""Code that runs with a Prefect server: deployments, forms, workers, supervision."""
