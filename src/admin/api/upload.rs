//! Request bodies: a small one as a whole, a large one piece by piece to a blocking reader.

use std::fmt::Display;
use std::io;
use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::mpsc::{Receiver, Sender};

use super::super::Fault;

/// A body of at most `limit` bytes.
pub(super) async fn collect<B>(body: B, limit: usize) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Display,
{
    let mut body = pin!(body);
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::usage(format!("the request's body was cut: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > limit {
            return Err(Fault::usage(format!("the request's body is larger than {limit} bytes")));
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

/// Hands a body on, piece by piece. Where this is dropped in the middle the reader sees a cut, no end.
pub(super) async fn pump<B>(body: B, sender: Sender<Part>)
where
    B: Body<Data = Bytes> + Send,
    B::Error: Display,
{
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let part = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Part::Data(data),
                Err(_) => continue,
            },
            Err(error) => Part::Cut(error.to_string()),
        };
        let ended = matches!(part, Part::Cut(_));
        if sender.send(part).await.is_err() || ended {
            return;
        }
    }
    // A reader that has gone has found its fault already.
    drop(sender.send(Part::End).await);
}

/// A piece of a body.
pub(super) enum Part {
    Data(Bytes),
    End,
    Cut(String),
}

/// Reads a pumped body; for blocking threads.
pub(super) struct PartReader {
    parts: Receiver<Part>,
    current: Bytes,
    ended: bool,
}

impl PartReader {
    pub(super) const fn new(parts: Receiver<Part>) -> Self {
        Self {
            parts,
            current: Bytes::new(),
            ended: false,
        }
    }
}

impl io::Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.parts.blocking_recv() {
                Some(Part::Data(data)) => self.current = data,
                Some(Part::End) => self.ended = true,
                Some(Part::Cut(why)) => return Err(io::Error::other(why)),
                None => return Err(io::Error::other("the sender has gone in the middle")),
            }
        }
        let read = self.current.len().min(buffer.len());
        if let Some(target) = buffer.get_mut(..read) {
            self.current.copy_to_slice(target);
        }
        Ok(read)
    }
}
