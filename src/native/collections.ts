/** Collections of the rule matcher (`ip`, `global`, …) in memory that processes share. */
import { addon } from './addon.ts'

/** Collections of the rule matcher (`ip`, `global`, …) in memory that processes share. */
export type CollectionsHandle = number

export interface CollectionsSummary {
  readonly records: number
  readonly bytes: number
  /** Records ever thrown out although they had not expired. */
  readonly evictions: number
  /** Members ever not stored because their record was full. */
  readonly refusals: number
}

/** Makes the table: the primary does, before it forks. 512 bytes a record. Throws when the file cannot be made. */
export function createCollections(path: string, records: number): CollectionsHandle {
  return addon().createCollections(path, records)
}

/** Opens the primary's table: workers do. Throws when it is not there. */
export function openCollections(path: string): CollectionsHandle {
  return addon().openCollections(path)
}

/** Lets go; rule sets keep what they use. */
export function closeCollections(collections: CollectionsHandle): void {
  addon().closeCollections(collections)
}

/** Size and losses. Throws on a stale handle. */
export function collectionsSummary(collections: CollectionsHandle): CollectionsSummary {
  return JSON.parse(addon().collectionsSummary(collections)) as CollectionsSummary
}
