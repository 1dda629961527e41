"""Makes the topics that producers write to, as they might have been long before: topics.py BROKERS RUN"""

import sys

from confluent_kafka.admin import AdminClient, NewTopic

brokers, run = sys.argv[1:]
config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "172800000"}
topics = [
    NewTopic(f"{run}.{name}", partitions, 1, config=config)
    for name, partitions in {"readings": 4, "cloud": 3, "machines": 2, "events": 1, "registered": 2}.items()
]
admin = AdminClient({"bootstrap.servers": brokers})
for made in admin.create_topics(topics).values():
    made.result(30)
