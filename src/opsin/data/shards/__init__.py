"""Data sets in shards: tars that training reads shard by shard, so that a set need fit neither memory nor the cache."""
