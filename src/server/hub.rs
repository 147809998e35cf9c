//! Looker's hub as a handler.

use hyper::{Request, Response};

use super::{Handler, LimitedBody, Peer};
use crate::looker::{Converters, Hub, Intake, ReplyBody};

/// Serves Looker's hub.
pub struct HubHandler<I: Intake, C: Converters>(pub Hub<I, C>);

impl<I: Intake, C: Converters> Clone for HubHandler<I, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I: Intake, C: Converters> Handler for HubHandler<I, C> {
    type Body = ReplyBody;

    async fn handle(&self, request: Request<LimitedBody>, peer: Peer) -> Response<ReplyBody> {
        self.0.handle(request, peer.ip()).await
    }
}
