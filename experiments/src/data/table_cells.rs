//! Images in the cells of tables, for the answer browser.

use burgess_base::Result;
use burgess_probe::bench::{ImageLocation, read_images};
use burgess_reports::answers::CellReader;

/// Reads images from the cells of published tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableCells;

impl CellReader for TableCells {
    fn read(&self, cells: &[String]) -> Vec<Result<Vec<u8>>> {
        let locations: Vec<ImageLocation> = cells.iter().map(|cell| ImageLocation::parse(cell)).collect();
        read_images(&locations.iter().collect::<Vec<_>>())
    }
}
