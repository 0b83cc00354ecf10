//! What subchannels promise.
