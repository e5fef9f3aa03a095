//! What goes over the wire, byte for byte. Every structure has its size pinned; values are little endian.

pub(crate) mod connect;
pub(crate) mod discovery;
pub(crate) mod events;
pub(crate) mod identify;
pub(crate) mod log;
pub(crate) mod namespace;
pub(crate) mod nvm;
pub(crate) mod pdu;
pub(crate) mod sqe;

/// Writes `text` into a fixed field, cut to its length and padded with `pad`.
pub(crate) fn put_text(field: &mut [u8], text: &str, pad: u8) {
    field.fill(pad);
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}
