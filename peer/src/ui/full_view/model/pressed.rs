//! What the full view makes of keys. Pure.

use std::time::Instant;

use super::{Focus, FullView, Overlay};
use crate::ui::composer::Composed;
use crate::ui::full_view::draw;
use crate::ui::keys::{Press, UNREADABLE};
use crate::ui::line_editor::Edit;
use crate::ui::view::Wish;

impl FullView {
    pub(in crate::ui::full_view) fn press(&mut self, press: &Press, now: Instant) -> Vec<Wish> {
        self.notice = None;
        match press {
            Press::Interrupt => return self.press_interrupt(now),
            Press::Suspend => return vec![Wish::Suspend],
            Press::Unreadable => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    self.say(UNREADABLE, true);
                }
                return Vec::new();
            }
            _ => {}
        }
        if self.overlay.is_some() {
            return self.press_overlay(press, now);
        }
        if self.focus == Focus::Talk
            && let Some(wishes) = self.press_talk(press, now)
        {
            return wishes;
        }
        match press {
            Press::EndOfInput => vec![Wish::EndOfInput],
            Press::Help => self.show(Overlay::Help { down: 0 }),
            Press::Tab => self.turn(1),
            Press::BackTab => self.turn(-1),
            Press::Escape => self.go_to(Focus::People),
            Press::Edit(Edit::Insert(text)) if text == "?" => self.show(Overlay::Help { down: 0 }),
            // What is written goes into the line, wherever one is.
            Press::Edit(Edit::Insert(_)) | Press::Paste(_) if self.chosen.is_some() => {
                let mut wishes = self.go_to(Focus::Talk);
                wishes.extend(self.press_talk(press, now).into_iter().flatten());
                wishes
            }
            press => self.press_pane(press),
        }
    }

    /// Keys for the line; nothing when they are for the view.
    fn press_talk(&mut self, press: &Press, now: Instant) -> Option<Vec<Wish>> {
        let with = self.chosen.clone()?;
        let online = self.chosen_person().is_some_and(|person| person.online == Some(true));
        let (_, page) = draw::talk_size(self, self.area()).unwrap_or((1, 1));
        let page = page.saturating_sub(1).max(1);
        let talk = self.talk(&with);
        match press {
            Press::PageUp => talk.back += page,
            Press::PageDown => {
                talk.back = talk.back.saturating_sub(page);
                return Some(self.seen(&with));
            }
            _ => match talk.composer.press(press, &with, online, now) {
                Composed::Nothing => {}
                Composed::Wish(wish) => {
                    // That somebody is told of the typing, or that Tab asks for names, moves nothing.
                    let comes_back = *press == Press::Submit && std::mem::take(&mut talk.back) > 0;
                    let mut wishes = if comes_back { self.seen(&with) } else { Vec::new() };
                    wishes.push(wish);
                    return Some(wishes);
                }
                Composed::Listing(Wish::People) => return Some(self.go_to(Focus::People)),
                Composed::Listing(wish) => {
                    self.focus = Focus::Files;
                    return Some(vec![wish]);
                }
                Composed::Back(_) => talk.back += page,
                Composed::Help => return Some(self.show(Overlay::Help { down: 0 })),
                Composed::Problem(what) => talk.problem(&what),
                Composed::NotMine => return None,
            },
        }
        Some(self.look_further_back())
    }

    fn press_pane(&mut self, press: &Press) -> Vec<Wish> {
        match (self.focus, press) {
            (Focus::People, Press::Edit(Edit::Older)) => self.choose(-1),
            (Focus::People, Press::Edit(Edit::Newer)) => self.choose(1),
            (Focus::People, Press::Submit) if self.chosen.is_some() => self.go_to(Focus::Talk),
            (Focus::People, Press::Reload) => vec![Wish::People],
            (Focus::Files, Press::Edit(Edit::Older)) => self.move_file(-1),
            (Focus::Files, Press::Edit(Edit::Newer)) => self.move_file(1),
            (Focus::Files, Press::PageUp) => self.move_file(-10),
            (Focus::Files, Press::PageDown) => self.move_file(10),
            (Focus::Files, Press::Submit) => self.get(),
            (Focus::Files, Press::Reload | Press::Edit(Edit::Backspace)) => self.ask_files(true),
            _ => Vec::new(),
        }
    }

    /// Clears what stands in the line, or goes back from what is looked at for a moment; else it is for the whole view.
    fn press_interrupt(&mut self, now: Instant) -> Vec<Wish> {
        if self.overlay.is_some() {
            return self.press_overlay(&Press::Interrupt, now);
        }
        let Some(with) = self.chosen.clone() else { return vec![Wish::Interrupt] };
        match self.talk(&with).composer.press(&Press::Interrupt, &with, false, now) {
            Composed::NotMine => vec![Wish::Interrupt],
            _ => Vec::new(),
        }
    }

    fn press_overlay(&mut self, press: &Press, now: Instant) -> Vec<Wish> {
        let step = usize::from(self.size.height / 2).max(1);
        let by = match press {
            Press::PageUp => -step.cast_signed(),
            Press::PageDown => step.cast_signed(),
            Press::Edit(Edit::Older) => -1,
            Press::Edit(Edit::Newer) => 1,
            _ => {
                self.overlay = None;
                let mut wishes = self.chosen.clone().map(|with| self.seen(&with)).unwrap_or_default();
                // The first key goes back, those that were typed behind it are for what is seen then.
                if let Press::Edit(Edit::Insert(keys)) = press
                    && let Some((at, _)) = keys.char_indices().nth(1)
                {
                    wishes.extend(self.press(&Press::Edit(Edit::Insert(keys[at..].to_owned())), now));
                }
                return wishes;
            }
        };
        match &mut self.overlay {
            Some(Overlay::Help { down }) => *down = down.saturating_add_signed(by),
            Some(Overlay::Found { back, .. }) => *back = back.saturating_add_signed(-by),
            None => {}
        }
        Vec::new()
    }
}
