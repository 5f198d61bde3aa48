"""What every sampled process loads as its `sitecustomize`: the folder is put on its path."""
