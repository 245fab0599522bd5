//! What a `GetFlows` request means. Pure.
//!
//! As Hubble does: `since` goes before `number`, `first` takes the oldest instead of the newest, and a follower without
//! either begins now.

use prost_types::Timestamp;
use tonic::Status;
use wire::v1::FlowAsk;

use super::{
    filter::{self, Filters},
    mask::Mask,
};
use crate::{
    hubble::proto::observer::GetFlowsRequest,
    time::{Ns, SECOND},
};

/// Live events that one agent tells one listener in a second; a burst may be a whole ring.
pub const MAX_PER_SECOND: u32 = 1_000;

/// So many more are asked of each agent than are wanted: a ring is in the order in which hooks and drops were settled, which is
/// not quite that of time.
const SLACK: u64 = 256;

/// A request, understood.
pub struct Wish {
    /// What the agents hear.
    pub ask: FlowAsk,
    /// What passes.
    pub filters: Filters,
    /// Of each flow.
    pub mask: Option<Mask>,
    /// Flows of the past at the most.
    pub limit: Option<usize>,
    /// Of more than those the oldest.
    pub oldest: bool,
    /// Not before.
    pub since: Option<Ns>,
    /// Not after.
    pub until: Option<Ns>,
    /// What comes is wanted, too.
    pub follow: bool,
    /// The past is wanted.
    pub history: bool,
}

impl Wish {
    /// Reads a request that came at `now`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, with the field's name.
    pub fn new(request: &GetFlowsRequest, now: Ns) -> Result<Self, Status> {
        let invalid = |why: String| Status::invalid_argument(why);
        if request.first && request.follow {
            return Err(invalid("first cannot be given with follow".to_owned()));
        }
        let filters =
            Filters::new(&request.whitelist, &request.blacklist).map_err(|error| invalid(error.to_string()))?;
        let older = request.experimental.as_ref().and_then(|one| one.field_mask.as_ref());
        let masks = [request.field_mask.as_ref(), older].into_iter().flatten().map(|mask| mask.paths.as_slice());
        let paths = masks.into_iter().find(|paths| !paths.is_empty());
        let mask = Mask::new(paths.unwrap_or_default()).map_err(invalid)?;
        let since = moment("since", request.since.as_ref())?;
        let until = moment("until", request.until.as_ref())?;
        let history = request.number > 0 || request.first || since.is_some() || !request.follow;
        let limit = usize::try_from(request.number).ok().filter(|number| *number > 0);
        // A span of time is told whole; of a follower's the number says how far back it begins.
        let limit = if since.is_some() && request.follow { None } else { limit };
        // From a given moment on, the first that fit count.
        let oldest = request.first || since.is_some();
        let unix_ns = |at: Option<Ns>| at.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
        let terms = filter::terms(&request.whitelist);
        let ask = FlowAsk {
            id: 0,
            since_unix_ns: unix_ns(if history { since } else { Some(now) }),
            until_unix_ns: unix_ns(until),
            // Each agent's share may be all of it; with filters only the collector can count.
            limit: limit.filter(|_| filters.is_empty()).map_or(0, |limit| (limit as u64).saturating_add(SLACK)),
            oldest,
            follow: request.follow,
            max_per_second: MAX_PER_SECOND,
            terms,
        };
        Ok(Self { ask, filters, mask, limit, oldest, since, until, follow: request.follow, history })
    }

    /// Whether a flow of that time is within the span.
    #[must_use]
    pub fn spans(&self, at: Ns) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until)
    }
}

fn moment(field: &'static str, time: Option<&Timestamp>) -> Result<Option<Ns>, Status> {
    let Some(time) = time else { return Ok(None) };
    let nanos = (0..1_000_000_000).contains(&time.nanos).then(|| Ns::from(time.nanos));
    let at = nanos.and_then(|nanos| time.seconds.checked_mul(SECOND)?.checked_add(nanos));
    at.map(Some).ok_or_else(|| Status::invalid_argument(format!("{field} is no time that can be told in nanoseconds")))
}
