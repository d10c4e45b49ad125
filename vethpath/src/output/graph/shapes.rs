//! What a picture is made of. Pure.

/// A rectangle, by its upper left corner. Pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rect {
    /// Its left edge.
    pub(super) x: f64,
    /// Its upper edge.
    pub(super) y: f64,
    /// Its width.
    pub(super) width: f64,
    /// Its height.
    pub(super) height: f64,
}

impl Rect {
    /// The point in its middle.
    pub(super) fn middle(self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    /// The same elsewhere.
    pub(super) fn moved(self, (x, y): (f64, f64)) -> Self {
        Self { x: self.x + x, y: self.y + y, ..self }
    }

    /// Where a line from its middle to a point leaves it.
    pub(super) fn border(self, (x, y): (f64, f64)) -> (f64, f64) {
        let (from_x, from_y) = self.middle();
        let (dx, dy) = (x - from_x, y - from_y);
        let part =
            |half: f64, distance: f64| if distance == 0.0 { f64::INFINITY } else { half / distance.abs() };
        let part = part(self.width / 2.0, dx).min(part(self.height / 2.0, dy)).min(1.0);
        (from_x + dx * part, from_y + dy * part)
    }
}

/// How a card looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The bar of a bridge.
    Bridge,
    /// Anything else.
    Plain,
}

/// A box with text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Card {
    /// The node that it stands for, by its position in the graph.
    pub(super) node: usize,
    /// Where it is.
    pub(super) rect: Rect,
    /// How it looks.
    pub(super) style: Style,
    /// Its lines, title first.
    pub(super) text: Vec<String>,
}

/// A line. The first point is followed by cubic curves: two control points and an end each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wire {
    /// The link that it stands for, by its position in the graph. `None` is a part of a bridge.
    pub(super) link: Option<usize>,
    /// Where it begins.
    pub(super) from: (f64, f64),
    /// How it goes on.
    pub(super) curves: Vec<[(f64, f64); 3]>,
}

impl Wire {
    /// A line through points.
    pub(super) fn through(link: Option<usize>, points: &[(f64, f64)]) -> Self {
        let curves = points.windows(2).map(|ends| [ends[0], ends[1], ends[1]]).collect();
        Self { link, from: points.first().copied().unwrap_or_default(), curves }
    }

    /// The same elsewhere.
    pub(super) fn moved(self, (x, y): (f64, f64)) -> Self {
        let shift = |(px, py): (f64, f64)| (px + x, py + y);
        let curves = self.curves.into_iter().map(|curve| curve.map(shift)).collect();
        Self { link: self.link, from: shift(self.from), curves }
    }
}
