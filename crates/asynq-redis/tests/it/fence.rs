//! Calls whose answer was lost, over a proxy that loses it (SAFETY rules 1 to 3).
