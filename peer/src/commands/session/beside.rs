//! What is done beside a view, because it takes its time.

use std::path::PathBuf;

use shared::{FileName, UserName};

use super::super::paths as written;
use crate::engine::{Error, Me, blocking, browse, contacts, offers};
use crate::ui::News;

/// What came of it.
pub(super) enum Done {
    News(News),
    /// Files are among what somebody may get, and they are to be told so.
    Offered {
        to: UserName,
        names: Vec<FileName>,
    },
}

/// What somebody shares, by asking them.
pub(super) async fn files(me: Me, of: UserName, start: String) -> Done {
    let found = async {
        let target = contacts::find(&me, &of).await?;
        let entries = browse::files(&me, &target, &start).await?;
        Ok::<_, Error>(entries.into_iter().flatten().collect())
    };
    Done::News(match found.await {
        Ok(files) => News::Files { of, start, files },
        Err(error) => News::Problem(error.to_string()),
    })
}

/// Puts files among what somebody may get.
pub(super) async fn offer(me: Me, to: UserName, paths: Vec<PathBuf>) -> Done {
    let user = to.clone();
    let put = blocking(move || {
        let paths: Vec<PathBuf> = paths.iter().map(|path| written::expanded(path)).collect();
        offers::put(&me.profile, &user, &paths, None, &mut |_| {})
    });
    match put.await {
        Ok(offered) => Done::Offered { to, names: offered.into_iter().map(|offer| offer.name).collect() },
        Err(error) => Done::News(News::Problem(error.to_string())),
    }
}

/// How a path goes on.
pub(super) async fn paths(start: String) -> Done {
    Done::News(written::complete(start).await)
}
