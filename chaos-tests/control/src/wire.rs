//! The wire between the leader and one node: encoded, counted, decoded.

use anyhow::Result;
use prost::Message as _;
use weir_coord_core::news::Omission;
use weir_model::message::{FromNode, ToNode};
use weir_proto::coordination::{
    stream::{EncodedRegisters, ProposeDecoder, ProposeEncoder, ReportDecoder, ReportEncoder},
    v1,
};

/// One stream, both ends of it.
#[derive(Default)]
pub(crate) struct Wire {
    omission: Omission,
    reports: ReportEncoder,
    heard: ReportDecoder,
    proposals: ProposeEncoder,
    told: ProposeDecoder,
    /// Bytes of messages, both ways.
    pub(crate) bytes: u64,
}

impl Wire {
    /// One of a leader's.
    pub(crate) fn new(registers: EncodedRegisters) -> Self {
        Self {
            proposals: ProposeEncoder::sharing(registers),
            ..Self::default()
        }
    }

    /// A node speaks.
    pub(crate) fn up(&mut self, message: FromNode) -> Vec<u8> {
        let message = match message {
            FromNode::Report(report) => FromNode::Report(self.omission.shorten(report)),
            other => other,
        };
        let wire = self.reports.encode(message).encode_to_vec();
        self.bytes += wire.len() as u64;
        wire
    }

    /// The leader hears it.
    pub(crate) fn hear(&mut self, wire: &[u8]) -> Result<FromNode> {
        Ok(self.heard.decode(v1::FromNode::decode(wire)?)?)
    }

    /// The leader speaks.
    pub(crate) fn down(&mut self, message: ToNode) -> Vec<u8> {
        let wire = self.proposals.encode(message).encode_to_vec();
        self.bytes += wire.len() as u64;
        wire
    }

    /// A node hears it.
    pub(crate) fn listen(&mut self, wire: &[u8]) -> Result<ToNode> {
        Ok(self.told.decode(v1::ToNode::decode(wire)?)?)
    }
}
