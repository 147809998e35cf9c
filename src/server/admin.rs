//! The admin side as a handler: the same API behind `admin.sock` and `admin.listen`, each with its own door.

use hyper::{Request, Response};

use super::{Handler, LimitedBody, Peer};
use crate::admin::api::{Api, ApiBody, Door};
use crate::admin::console::Client;

/// Serves the admin API.
#[derive(Clone)]
pub struct AdminHandler {
    /// The API.
    pub api: Api,
    /// Through which door its requests come.
    pub door: Door,
}

impl Handler for AdminHandler {
    type Body = ApiBody;

    async fn handle(&self, mut request: Request<LimitedBody>, peer: Peer) -> Response<ApiBody> {
        request.extensions_mut().insert(Client {
            address: peer.ip(),
            secure: peer.secure,
        });
        self.api.handle(request, self.door).await
    }
}
