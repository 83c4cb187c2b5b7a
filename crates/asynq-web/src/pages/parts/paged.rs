//! Long lists, a page at a time.

use maud::{Markup, html};

use crate::pages::view::View;

/// A page of a long list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paged {
    number: usize,
    pages: usize,
    rows: usize,
}

impl Paged {
    /// Returns the page that is asked for, of a list of this length, or the nearest one that there is.
    pub(crate) fn of(asked: Option<usize>, total: usize, rows: usize) -> Self {
        let pages = total.div_ceil(rows.max(1)).max(1);
        let number = asked.unwrap_or(1).clamp(1, pages);
        Self { number, pages, rows }
    }

    /// Returns the number of the page that has a row.
    pub(crate) fn page_of(&self, row: usize) -> usize {
        row / self.rows.max(1) + 1
    }

    /// Returns the number of this page, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Returns the rows of this page.
    pub(crate) fn rows<'r, T>(&self, all: &'r [T]) -> impl Iterator<Item = &'r T> + use<'r, T> {
        all.iter().skip((self.number - 1) * self.rows).take(self.rows)
    }

    /// Returns the links to the pages before and after.
    pub(crate) fn links(&self, view: &View) -> Markup {
        let to = |page: usize| view.with(&[("page", &page.to_string())]);
        html! {
            @if self.pages > 1 {
                nav class="pager" aria-label="Pages of the list" {
                    @if self.number > 1 { a class="button" rel="prev" href=(to(self.number - 1)) { "Previous" } }
                    span { "Page " (self.number) " of " (self.pages) }
                    @if self.number < self.pages { a class="button" rel="next" href=(to(self.number + 1)) { "Next" } }
                }
            }
        }
    }
}

/// Returns the form that filters a list by a text, and keeps the other parameters of the page.
pub(crate) fn filter(view: &View, text: &str, label: &str) -> Markup {
    html! {
        form class="filters" method="get" role="search" data-keep {
            @for (name, value) in view.parameters(&["q", "page"]) { input type="hidden" name=(name) value=(value); }
            input type="search" name="q" value=(text) placeholder=(label) aria-label=(label) maxlength="256" data-filter;
            button class="button" { "Filter" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Paged;

    #[test]
    fn a_page_that_is_not_there_is_the_nearest_one() {
        let all: Vec<usize> = (0..95).collect();
        for (asked, number, first) in [(None, 1, 0), (Some(0), 1, 0), (Some(2), 2, 50), (Some(9), 2, 50)] {
            let page = Paged::of(asked, all.len(), 50);
            assert_eq!((page.number(), page.rows(&all).next()), (number, Some(&first)));
        }
        let page = Paged::of(None, 95, 50);
        assert_eq!((page.page_of(49), page.page_of(50)), (1, 2));
        assert_eq!(Paged::of(Some(3), 0, 50).rows(&[0_u8; 0]).count(), 0);
    }
}
