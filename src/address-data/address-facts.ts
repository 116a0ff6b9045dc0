/** What expressions can ask of an address. Texts are empty and the rest undefined where nothing is known (traffic-policy.md §6.1, §6.3). */

export interface AddressFacts {
  /** With the categories above them: `com.github` beside `com.github.actions`. */
  readonly categories: readonly string[]
  readonly isOnBlocklist: boolean
  readonly isTorNode: boolean
  readonly asNumber: number | undefined
  readonly asOrganization: string
  readonly location: LocationFacts
  readonly registeredLocation: PlaceFacts
}

export interface PlaceFacts {
  readonly city: string
  readonly continent: string
  readonly country: string
  /** ISO 3166-1 alpha-2. */
  readonly countryCode: string
  readonly subdivision: string
  readonly timezone: string
  readonly metroCode: string
  readonly isEu: boolean | undefined
}

/** Numbers are texts, as ngrok's are. */
export interface LocationFacts extends PlaceFacts {
  readonly latitude: string
  readonly longitude: string
  /** Kilometres. */
  readonly radius: string
  readonly postalCode: string
}

const NO_PLACE: PlaceFacts = Object.freeze({
  city: '',
  continent: '',
  country: '',
  countryCode: '',
  subdivision: '',
  timezone: '',
  metroCode: '',
  isEu: undefined,
})

export const NO_FACTS: AddressFacts = Object.freeze({
  categories: [],
  isOnBlocklist: false,
  isTorNode: false,
  asNumber: undefined,
  asOrganization: '',
  location: Object.freeze({ ...NO_PLACE, latitude: '', longitude: '', radius: '', postalCode: '' }),
  registeredLocation: NO_PLACE,
})
