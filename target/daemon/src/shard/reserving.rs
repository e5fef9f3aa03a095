//! Reservations between the block layer and what is around it.

use super::Shard;

impl Shard {
    /// Has written down what is to last, and takes note of changes whose askers are gone.
    pub(super) fn serve_reservations(&mut self) {
        while let Some(order) = self.router.local().next_keep_order() {
            let (volume, number) = (order.volume, order.number);
            if !self.shared.keeper.keep(self.router.core(), order) {
                self.router.local().reservation_kept(volume, number, false);
            }
        }
        while let Some((volume, effects)) = self.router.next_unheard() {
            self.shared.units.reservations_changed(volume, &effects, None);
        }
    }
}
