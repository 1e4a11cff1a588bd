"""The demo: a simulated house, an embedded broker, a Zigbee2MQTT replayer, and one command that runs everything end to end."""
