"""The jobs: one public function a file. They decide with `domain` and act on the store, source and state they are given."""
