//! WebSocket rooms over Redis. Empty so far: the Redis bus is not written yet.
