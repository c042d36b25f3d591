"""Starting and stopping the server, and Multi Model Server's configuration in terms of Dimple's settings."""
