module kafka-sse-bridge.invalid/follow

go 1.19

require github.com/launchdarkly/eventsource v1.8.0
