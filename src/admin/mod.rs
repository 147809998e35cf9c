//! What people and scripts see of a running or resting pintle.

pub mod alerts;
pub mod console;
pub mod history;
pub mod lookout;
pub mod selection;

/// Until the API is here.
#[derive(Clone)]
pub struct Placeholder;

impl crate::server::Handler for Placeholder {
    type Body = crate::looker::ReplyBody;

    async fn handle(
        &self,
        _: hyper::Request<crate::server::LimitedBody>,
        _: crate::server::Peer,
    ) -> hyper::Response<Self::Body> {
        std::future::pending().await
    }
}

impl crate::looker::RunObserver for Placeholder {
    fn run_ended(&self, _: &crate::looker::RunEnd) {}
}
