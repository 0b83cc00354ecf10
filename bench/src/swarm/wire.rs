//! The little of HTTP/2 that a client of one stream must understand: it cuts
//! what arrives into frames, counts gRPC messages in DATA, and notes what it
//! has to answer. It keeps no buffer, so that 20 000 of them cost the machine
//! little beside the server under test.

/// Bytes of a frame's header (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;

/// Bytes in front of a gRPC message.
const MESSAGE_HEADER: usize = 5;

/// Payload of control frames that is looked at; the rest is skipped.
const CONTROL_MAX: usize = 96;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// `SETTINGS_HEADER_TABLE_SIZE`
const HEADER_TABLE_SIZE: u16 = 1;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The server's settings; its decoder keeps `header_table` bytes.
    Settings { header_table: u32 },
    /// To be answered with the same bytes.
    Ping([u8; 8]),
    /// A whole gRPC message of this length, prefix not counted.
    Message { len: usize },
    /// The server ended the stream.
    Ended,
}

/// Reads one connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    header: [u8; FRAME_HEADER],
    header_len: u8,
    /// Payload of the current frame still to come.
    frame_left: usize,
    control: Vec<u8>,
    prefix: [u8; MESSAGE_HEADER],
    prefix_len: u8,
    message_left: usize,
    /// DATA payload since the caller last took it, for flow control.
    consumed: u32,
    /// The newest message, if asked for.
    sample: Option<Vec<u8>>,
}

impl Wire {
    /// One that keeps the newest message.
    pub(super) fn sampling() -> Self {
        Self {
            sample: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// The newest message, or as much of it as has come.
    pub(super) fn sample(&self) -> Option<&[u8]> {
        self.sample.as_deref()
    }

    /// Bytes of DATA that the server may be credited with, once over `limit`.
    pub(super) fn take_credit(&mut self, limit: u32) -> Option<u32> {
        (self.consumed > limit).then(|| std::mem::take(&mut self.consumed))
    }

    /// Takes what arrived next.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Event)) {
        while !bytes.is_empty() {
            if usize::from(self.header_len) < FRAME_HEADER {
                fill(&mut self.header, &mut self.header_len, &mut bytes);
                if usize::from(self.header_len) < FRAME_HEADER {
                    return;
                }
                let [a, b, c, ..] = self.header;
                self.frame_left = u32::from_be_bytes([0, a, b, c]) as usize;
                self.control.clear();
            }
            let len = self.frame_left.min(bytes.len());
            let (payload, rest) = bytes.split_at(len);
            bytes = rest;
            self.frame_left -= len;
            let [_, _, _, kind, flags, ..] = self.header;
            if kind == DATA {
                self.data(payload, &mut tell);
            } else {
                let room = CONTROL_MAX - self.control.len().min(CONTROL_MAX);
                self.control.extend(&payload[..len.min(room)]);
            }
            if self.frame_left == 0 {
                self.header_len = 0;
                self.frame_done(kind, flags, &mut tell);
            }
        }
    }

    fn frame_done(&mut self, kind: u8, flags: u8, tell: &mut impl FnMut(Event)) {
        match kind {
            SETTINGS if flags & ACK == 0 => tell(Event::Settings {
                header_table: header_table(&self.control),
            }),
            PING if flags & ACK == 0 => {
                if let Some(echo) = self.control.first_chunk() {
                    tell(Event::Ping(*echo));
                }
            }
            RST_STREAM => tell(Event::Ended),
            DATA | HEADERS if flags & END_STREAM != 0 => tell(Event::Ended),
            _ => {}
        }
        if !self.control.is_empty() {
            self.control = Vec::new();
        }
    }

    fn data(&mut self, mut payload: &[u8], tell: &mut impl FnMut(Event)) {
        self.consumed = self
            .consumed
            .saturating_add(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        while !payload.is_empty() {
            if usize::from(self.prefix_len) < MESSAGE_HEADER {
                fill(&mut self.prefix, &mut self.prefix_len, &mut payload);
                if usize::from(self.prefix_len) < MESSAGE_HEADER {
                    return;
                }
                self.message_left = self.message_len();
                if let Some(sample) = &mut self.sample {
                    sample.clear();
                }
            }
            let len = self.message_left.min(payload.len());
            if let Some(sample) = &mut self.sample {
                sample.extend(&payload[..len]);
            }
            payload = &payload[len..];
            self.message_left -= len;
            if self.message_left == 0 {
                self.prefix_len = 0;
                tell(Event::Message {
                    len: self.message_len(),
                });
            }
        }
    }

    fn message_len(&self) -> usize {
        let [_flags, a, b, c, d] = self.prefix;
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

/// Moves bytes from `from` into `to`, of which `have` are there.
fn fill(to: &mut [u8], have: &mut u8, from: &mut &[u8]) {
    let room = &mut to[usize::from(*have)..];
    let len = room.len().min(from.len());
    room[..len].copy_from_slice(&from[..len]);
    *from = &from[len..];
    *have += u8::try_from(len).unwrap_or_default();
}

fn header_table(settings: &[u8]) -> u32 {
    let mut entries = settings.chunks_exact(6);
    let found = entries.find_map(|entry| match *entry {
        [a, b, c, d, e, f] if u16::from_be_bytes([a, b]) == HEADER_TABLE_SIZE => {
            Some(u32::from_be_bytes([c, d, e, f]))
        }
        _ => None,
    });
    found.unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = len[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn messages_are_counted_across_any_cut_and_any_framing() {
        let mut message = vec![0, 0, 0, 0, 7];
        message.extend(b"payload");
        let mut bytes = frame(SETTINGS, 0, &[0, 1, 0, 0, 0, 0]);
        bytes.extend(frame(HEADERS, 4, &[0x88]));
        bytes.extend(frame(DATA, 0, &message[..3]));
        bytes.extend(frame(PING, 0, b"pingpong"));
        bytes.extend(frame(DATA, 0, &message[3..]));
        bytes.extend(frame(DATA, 0, &[0, 0, 0, 0, 0]));
        bytes.extend(frame(HEADERS, 4 | END_STREAM, &[0x88]));
        let expected = [
            Event::Settings { header_table: 0 },
            Event::Ping(*b"pingpong"),
            Event::Message { len: 7 },
            Event::Message { len: 0 },
            Event::Ended,
        ];
        for cut in 1..=bytes.len() {
            let mut wire = Wire::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(cut) {
                wire.feed(piece, |event| seen.push(event));
            }
            assert_eq!(seen, expected, "cut every {cut} bytes");
            assert_eq!(wire.take_credit(16), Some(17));
            assert_eq!(wire.take_credit(16), None);
        }
    }
}
