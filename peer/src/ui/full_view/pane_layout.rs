//! The places of the panes on the screen. Pure.

use ratatui_core::layout::Rect;

/// The width from which users, conversation and files are shown side by side.
const THREE_PANE_COLUMNS: u16 = 96;
/// The width from which users are shown beside one other pane; below, only the focused pane is shown.
const TWO_PANE_COLUMNS: u16 = 56;
const USERS_PANE_COLUMNS: u16 = 20;
const MAX_TRANSFER_ROWS: u16 = 4;

/// The pane that gets the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FocusedPane {
    Users,
    Conversation,
    Files,
    Transfers,
}

/// The area of each pane; `None` if it isn't shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaneLayout {
    pub(super) users: Option<Rect>,
    pub(super) conversation: Option<Rect>,
    pub(super) files: Option<Rect>,
    pub(super) transfers: Option<Rect>,
    pub(super) help: Rect,
}

impl PaneLayout {
    pub(super) fn arrange(area: Rect, focus: FocusedPane, running: usize) -> Self {
        let help = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
        let mut rest = Rect { height: area.height.saturating_sub(1), ..area };
        let mut layout = Self { users: None, conversation: None, files: None, transfers: None, help };
        // The transfers pane takes the whole screen: its list of ended transfers is long.
        if focus == FocusedPane::Transfers {
            layout.transfers = Some(rest);
            return layout;
        }
        // A quarter of the screen at most: the conversation matters more.
        let below = u16::try_from(running).unwrap_or(u16::MAX).min(MAX_TRANSFER_ROWS).min(rest.height / 4);
        if below > 0 {
            rest.height -= below;
            layout.transfers = Some(Rect { y: rest.bottom(), height: below, ..rest });
        }
        let column = |x: u16, width: u16| Some(Rect { x, width, ..rest });
        if area.width < TWO_PANE_COLUMNS {
            match focus {
                FocusedPane::Users => layout.users = Some(rest),
                FocusedPane::Conversation | FocusedPane::Transfers => layout.conversation = Some(rest),
                FocusedPane::Files => layout.files = Some(rest),
            }
            return layout;
        }
        layout.users = column(0, USERS_PANE_COLUMNS);
        let (left, room) = (USERS_PANE_COLUMNS + 1, area.width - USERS_PANE_COLUMNS - 1);
        if area.width >= THREE_PANE_COLUMNS {
            let files = (room / 3).min(44);
            layout.conversation = column(left, room - files - 1);
            layout.files = column(area.width - files, files);
        } else if focus == FocusedPane::Files {
            layout.files = column(left, room);
        } else {
            layout.conversation = column(left, room);
        }
        layout
    }
}
