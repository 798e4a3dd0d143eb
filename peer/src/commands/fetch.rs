//! `peer fetch`.

use super::Context;
use crate::engine::Error;
use crate::engine::fetch::{Destination, Request, fetch};
use crate::ui::{FetchBars, size};

pub(super) async fn run(context: &Context, request: &Request) -> Result<(), Error> {
    let me = context.me()?;
    let mut bars = FetchBars::new(&context.output);
    let outcome = fetch(&me, request, &mut |event| bars.show(&event), &context.cancel).await;
    match outcome {
        Ok(summary) => Ok(bars.end(&summary)?),
        Err(Error::Interrupted) => {
            bars.clear();
            let (got, all) = bars.progress();
            if all > 0 && request.destination != Destination::Stdout {
                let kept = size(got);
                context.output.note(&format!(
                    "interrupted: {kept} of {} were verified, whole files are in place and parts are kept; \
                     run the same command again to go on",
                    size(all)
                ));
            }
            Err(Error::Interrupted)
        }
        Err(error) => {
            bars.clear();
            Err(error)
        }
    }
}
