//! What a message may be, by its parts, before anything is made of it.
//!
//! Two bytes of a message can stand for a hundred in memory: an empty row. So a message that may be
//! large, since it may have a register, is looked at first: any other is small, or it is refused.

use std::marker::PhantomData;

use prost::{Message, bytes::Buf as _, encoding::decode_varint};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::v1;
use crate::MAX_MESSAGE_BYTES;

/// `FromNode.promise`: it has a register, in columns.
const PROMISE: u64 = 4;

/// As `ProstCodec`, for messages that are looked at before.
#[derive(Clone, Debug)]
pub struct Bounded<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Decodes what is within bounds.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(ProstDecoder<U>);

/// A message of the stream.
pub trait Parts {
    /// The part that may be as large as the message, if others may not.
    const LARGE: Option<u64> = None;
}

impl Parts for v1::FromNode {
    const LARGE: Option<u64> = Some(PROMISE);
}
// A leader's, whom nodes go by.
impl Parts for v1::ToNode {}
impl Parts for v1::SuspectRequest {}
impl Parts for v1::SuspectResponse {}

impl<T, U> Codec for Bounded<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Parts + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

impl<U: Message + Default + Parts> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(large) = U::LARGE {
            check(buffer.chunk(), large).map_err(Status::out_of_range)?;
        }
        self.0.decode(buffer)
    }
}

/// One part, and a small one unless it is `large`. Several are one message that is decoded over and
/// over, and rows add up.
fn check(mut message: &[u8], large: u64) -> Result<(), &'static str> {
    const MALFORMED: &str = "it is no message of this stream";
    if message.is_empty() {
        return Ok(());
    }
    let tag = decode_varint(&mut message).map_err(|_| MALFORMED)?;
    let (part, kind) = (tag >> 3, tag & 7);
    if kind != 2 {
        return Err(MALFORMED);
    }
    let length = decode_varint(&mut message).map_err(|_| MALFORMED)?;
    if length != message.len() as u64 {
        return Err("a message of this stream has one part");
    }
    if part != large && message.len() > MAX_MESSAGE_BYTES {
        return Err("a message that is no promise is larger than any may be");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As protobuf has a part: its number, its length, its bytes.
    fn part(number: u8, bytes: usize) -> Vec<u8> {
        let mut message = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes as u64, &mut message);
        message.resize(message.len() + bytes, 0);
        message
    }

    #[test]
    fn what_nodes_say_passes() {
        let acknowledge = v1::FromNode {
            message: Some(v1::from_node::Message::Ack(v1::Ack {
                node: vec![7; 16],
                incarnation: u64::MAX,
                ..v1::Ack::default()
            })),
        };
        assert_eq!(check(&acknowledge.encode_to_vec(), PROMISE), Ok(()));
        assert_eq!(check(&[], PROMISE), Ok(()));
        assert_eq!(check(&part(1, MAX_MESSAGE_BYTES), PROMISE), Ok(()));
        assert_eq!(check(&part(4, MAX_MESSAGE_BYTES + 1), PROMISE), Ok(()));
    }

    #[test]
    fn rows_without_end_are_refused_before_they_are_rows() {
        for number in [1, 2, 3, 5, 6] {
            let refused = check(&part(number, MAX_MESSAGE_BYTES + 1), PROMISE);
            assert!(refused.is_err(), "{number}");
        }
        // As large in small parts, or behind one that may be large.
        let many = [part(1, 1_000), part(1, 1_000)].concat();
        assert!(check(&many, PROMISE).is_err());
        let behind = [part(4, 3), part(1, 2 * MAX_MESSAGE_BYTES)].concat();
        assert!(check(&behind, PROMISE).is_err());
        let cut_off = part(1, 1_000);
        assert!(check(&cut_off[..500], PROMISE).is_err());
        assert!(check(&[8, 1], PROMISE).is_err(), "a number");
        assert!(check(&[0xff; 11], PROMISE).is_err());
    }
}
