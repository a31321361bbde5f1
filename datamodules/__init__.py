"""What is learned from: sites, preprocessing, spatial structure, store, single source, held out, phantoms."""
