//! The admin side as a handler: the same API behind `admin.sock` and `admin.listen`, each with its own door.

use hyper::{Request, Response};

use super::{Handler, LimitedBody, Peer};
use crate::admin::api::{Api, ApiBody, Door};

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

    async fn handle(&self, request: Request<LimitedBody>, _: Peer) -> Response<ApiBody> {
        self.api.handle(request, self.door).await
    }
}
